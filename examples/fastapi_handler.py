"""A web service: a picture is posted, its sharp version comes back.

    pip install fastapi uvicorn
    uvicorn examples.fastapi_handler:app
    curl --data-binary @photo.jpg localhost:8000/deblur -o sharp.png

One model serves all requests: a Deblurrer's calls from several threads wait for each other, but
for as many at once as it was loaded with `streams`.
FastAPI runs a plain `def` in a thread of its own, so that the server answers meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cv2
import numpy as np
from fastapi import Body, FastAPI, HTTPException, Request, Response

import allfocus

MODEL = "didanet-lite"
MAX_BYTES = 20_000_000
MAX_PIXELS = 24_000_000


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model when the server starts, let go of it when it ends."""
    with allfocus.load(MODEL, memory="1GiB") as deblur:
        app.state.deblur = deblur
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/deblur", response_class=Response)
def deblur_picture(request: Request, data: bytes = Body(media_type="image/*")) -> Response:
    """PNG of the sharp picture; 413 for one that is too large, 415 for what is no picture."""
    if len(data) > MAX_BYTES:
        raise HTTPException(413, f"at most {MAX_BYTES} bytes")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise HTTPException(415, "expected a PNG, JPEG, TIFF, WebP or BMP as the request's body")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise HTTPException(413, f"at most {MAX_PIXELS} pixels")
    result = request.app.state.deblur(image)
    _, png = cv2.imencode(".png", result.image)
    taken = sum(result.timings.values())
    headers = {"X-Milliseconds": f"{taken:.0f}", "X-Skipped": f"{result.skipped:.2f}"}
    return Response(png.tobytes(), media_type="image/png", headers=headers)
