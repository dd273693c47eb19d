"""`torch-workflow-archiver` from Python, under its old name; MarServe's archiver does the work."""
