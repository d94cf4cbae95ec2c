//! Clients that others wrote for tokio, as they are: they know nothing of pyloop.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::prelude::*;
use redis::AsyncTypedCommands;
use redis::aio::MultiplexedConnection;

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}

/// reqwest: the status and the body of a POST.
#[pyfunction]
fn http_post(py: Python<'_>, url: String, body: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        // A client of its own: a connection belongs to the runtime that it was made in.
        let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
        let response = client.post(url).body(body).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(failed)?;
        Ok::<_, PyErr>((status, body.to_vec()))
    })
}

/// The same, once with everything that reqwest does on the background runtime.
#[pyfunction]
fn http_get_spawned(py: Python<'_>, url: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async move {
        let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
        let response = client.get(url).send().await.map_err(failed)?;
        response.text().await.map_err(failed)
    })
}

/// A connection to PostgreSQL.
#[pyclass(frozen)]
struct Postgres(Arc<tokio_postgres::Client>);

#[pymethods]
impl Postgres {
    #[staticmethod]
    fn connect(py: Python<'_>, config: String) -> PyResult<Bound<'_, PyAny>> {
        pyloop::future_into_py(py, async move {
            let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.map_err(failed)?;
            // As its documentation says: ends when the client is dropped.
            tokio::spawn(connection);
            Ok::<_, PyErr>(Self(Arc::new(client)))
        })
    }

    fn execute<'py>(&self, py: Python<'py>, statement: String) -> PyResult<Bound<'py, PyAny>> {
        let client = Arc::clone(&self.0);
        pyloop::future_into_py(py, async move { client.execute(&statement, &[]).await.map_err(failed) })
    }

    /// The numbers of the first column.
    fn numbers<'py>(&self, py: Python<'py>, query: String) -> PyResult<Bound<'py, PyAny>> {
        let client = Arc::clone(&self.0);
        pyloop::future_into_py(py, async move {
            let rows = client.query(&query, &[]).await.map_err(failed)?;
            rows.iter().map(|row| row.try_get::<_, i32>(0).map_err(failed)).collect::<PyResult<Vec<_>>>()
        })
    }

    /// As they come.
    fn stream<'py>(&self, py: Python<'py>, query: String) -> PyResult<Bound<'py, PyAny>> {
        let client = Arc::clone(&self.0);
        let rows = futures::stream::once(async move {
            let none: [&str; 0] = [];
            client.query_raw(&query, none).await.map_err(failed)
        });
        let rows = rows.map_ok(|rows| rows.map_err(failed)).try_flatten();
        pyloop::stream_into_py(py, rows.map(|row| row.and_then(|row| row.try_get::<_, i32>(0).map_err(failed))))
    }

    /// All of them by one connection at once.
    fn pipeline<'py>(&self, py: Python<'py>, queries: Vec<String>) -> PyResult<Bound<'py, PyAny>> {
        let client = Arc::clone(&self.0);
        pyloop::future_into_py(py, async move {
            let queries = queries.iter().map(|query| client.query_one(query.as_str(), &[]));
            let rows = futures::future::try_join_all(queries).await.map_err(failed)?;
            rows.iter().map(|row| row.try_get::<_, i32>(0).map_err(failed)).collect::<PyResult<Vec<_>>>()
        })
    }
}

/// A connection to Redis, shared by all that use it.
#[pyclass(frozen)]
struct Redis {
    connection: MultiplexedConnection,
    client: redis::Client,
}

#[pymethods]
impl Redis {
    #[staticmethod]
    fn connect(py: Python<'_>, url: String) -> PyResult<Bound<'_, PyAny>> {
        pyloop::future_into_py(py, async move {
            let client = redis::Client::open(url).map_err(failed)?;
            let connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
            Ok::<_, PyErr>(Self { connection, client })
        })
    }

    fn set<'py>(&self, py: Python<'py>, key: String, value: String) -> PyResult<Bound<'py, PyAny>> {
        let mut connection = self.connection.clone();
        pyloop::future_into_py(py, async move { connection.set(key, value).await.map_err(failed) })
    }

    fn get<'py>(&self, py: Python<'py>, key: String) -> PyResult<Bound<'py, PyAny>> {
        let mut connection = self.connection.clone();
        pyloop::future_into_py(py, async move { connection.get(key).await.map_err(failed) })
    }

    fn increment<'py>(&self, py: Python<'py>, key: String) -> PyResult<Bound<'py, PyAny>> {
        let mut connection = self.connection.clone();
        pyloop::future_into_py(py, async move { connection.incr(key, 1).await.map_err(failed) })
    }

    fn publish<'py>(&self, py: Python<'py>, channel: String, message: String) -> PyResult<Bound<'py, PyAny>> {
        let mut connection = self.connection.clone();
        pyloop::future_into_py(py, async move { connection.publish(channel, message).await.map_err(failed) })
    }

    /// The messages of a channel, once it is subscribed to.
    fn subscribe<'py>(&self, py: Python<'py>, channel: String) -> PyResult<Bound<'py, PyAny>> {
        let client = self.client.clone();
        pyloop::future_into_py(py, async move {
            let mut messages = client.get_async_pubsub().await.map_err(failed)?;
            messages.subscribe(channel).await.map_err(failed)?;
            let payloads = messages.into_on_message().map(|message| message.get_payload::<String>().map_err(failed));
            Python::attach(|py| pyloop::stream_into_py(py, payloads).map(Bound::unbind))
        })
    }
}

/// tokio::fs: writes a file, reads it back, removes it.
#[pyfunction]
fn file_round_trip(py: Python<'_>, path: String, content: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        tokio::fs::write(&path, &content).await?;
        let read = tokio::fs::read(&path).await?;
        tokio::fs::remove_file(&path).await?;
        if read == content { Ok(read) } else { Err(PyRuntimeError::new_err("another content")) }
    })
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(http_post, http_get_spawned, file_round_trip);
    module.add_class::<Postgres>()?;
    module.add_class::<Redis>()
}
