//! An HTTP server in Rust, hyper's, with handlers in Python.

use pyo3::prelude::*;

// docs: server
use std::convert::Infallible;
use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pyloop::Callback;
use pyo3::pybacked::PyBackedBytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An HTTP server. A Python function answers, plain or async: `handler(method, path, body) -> (status, body)`.
#[pyclass(frozen)]
struct Server {
    #[pyo3(get)]
    port: u16,
    listener: TcpListener,
    handler: Callback,
}

#[pyloop::awaitable]
#[pymethods]
impl Server {
    #[staticmethod]
    async fn bind(host: String, port: u16, handler: Callback) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port)).await?;
        Ok(Self { port: listener.local_addr()?.port(), listener, handler })
    }

    /// Serves until it is cancelled. Connections run on the background runtime, the handler on the event loop.
    async fn serve(&self) -> io::Result<()> {
        // Dropped with this future: the connections end, and so does what they have called.
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            let handler = self.handler.clone();
            let answers = service_fn(move |request| answer(handler.clone(), request));
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answers));
            while connections.try_join_next().is_some() {} // those that have ended, whatever their clients did
        }
    }
}

/// When the client goes, hyper drops this, which cancels the Python task.
async fn answer(handler: Callback, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let Ok(body) = request.into_body().collect().await else {
        return Ok(response(StatusCode::BAD_REQUEST, Bytes::new()));
    };
    let answered = handler.call((method, path, body.to_bytes().to_vec())).extracted::<(u16, PyBackedBytes)>().await;
    Ok(match answered {
        Ok((status, body)) => response(StatusCode::from_u16(status).unwrap_or_default(), Bytes::from_owner(body)),
        Err(raised) => response(StatusCode::INTERNAL_SERVER_ERROR, raised.to_string().into()),
    })
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
// docs: end

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Server>()
}
