"""FastAPI answering a constant, without any batching: the plain baseline.

`uvicorn constant_fastapi:app --port PORT`
"""

from typing import Any

from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
def predict(body: dict[str, Any]) -> str:
    """The answer, from a thread of the pool, as a blocking model would be called."""
    return "ok"
