//! The same without the attribute, for programs that have more to do with Python than to run a loop.

use std::time::Duration;

use pyo3::prelude::*;

// docs: by_hand
fn main() -> PyResult<()> {
    Python::initialize();
    Python::attach(|py| {
        pyloop::prepare(py)?; // `import pyloop` finds the copy in this program
        let half = pyloop::run(py, async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let slept = Python::attach(|py| {
                let asyncio = py.import("asyncio")?;
                pyloop::into_future(asyncio.call_method1("sleep", (0.01, 21))?)
            })?;
            let value = slept.await?;
            Python::attach(|py| value.extract::<u32>(py))
        })?;
        println!("{}", 2 * half);
        Ok(())
    })
}
// docs: end
