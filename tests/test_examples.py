"""The examples run, and do what they say."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import shared_memory
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import allfocus
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"


def example(name: str) -> Any:
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_example_is_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {
        "camera_loop",
        "fastapi_handler",
        "gpu_frame",
        "gstreamer",
        "ring_buffer",
    }


def test_the_camera_loop_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="the clip is written by PyAV")
    from clips import write_clip

    clip = write_clip(tmp_path / "clip.mp4", 6, sound=False)
    words = [str(clip), "--frames", "3", "--no-window", "--deadline-ms", "5000"]
    assert example("camera_loop").main(words) == 0
    assert "frames" in capsys.readouterr().out


@pytest.fixture
def client() -> Iterator[Any]:
    pytest.importorskip("fastapi", reason="needs FastAPI")
    pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")
    from fastapi.testclient import TestClient

    with TestClient(example("fastapi_handler").app) as client:
        yield client


def test_a_posted_picture_comes_back_sharp(client: Any) -> None:
    photo = cv2.imread(str(PHOTO))[:120, :160]
    answer = client.post("/deblur", content=cv2.imencode(".png", photo)[1].tobytes())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert float(answer.headers["x-milliseconds"]) > 0
    sharp = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert sharp is not None
    assert sharp.shape == photo.shape
    assert not np.array_equal(sharp, photo)


def test_what_is_no_picture_is_refused(client: Any) -> None:
    assert client.post("/deblur", content=b"not a picture").status_code == 415
    assert client.post("/deblur", content=bytes(20_000_001)).status_code == 413


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["cupy", "pycuda"])
def test_a_frame_in_gpu_memory(way: str) -> None:
    pytest.importorskip(way)
    assert example("gpu_frame").main(["--with", way]) == 0


class Pointed:
    """An array as PyCUDA has it, here in host memory."""

    def __init__(self, array: Any) -> None:
        self.array = np.ascontiguousarray(array)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.array.__array_interface__)


def test_pycuda_works_in_the_context_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pycuda.autoinit` would make a context of its own, in which no result is valid."""

    def copy(target: Any, address: int) -> None:
        ctypes.memmove(target.ctypes.data, address, target.nbytes)

    parts = {
        "autoprimaryctx": ModuleType("pycuda.autoprimaryctx"),
        "driver": SimpleNamespace(memcpy_dtoh=copy),
        "gpuarray": SimpleNamespace(to_gpu=Pointed),
    }
    pycuda = ModuleType("pycuda")
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, f"pycuda.{name}", part)
        setattr(pycuda, name, part)
    monkeypatch.setitem(sys.modules, "pycuda", pycuda)
    frame = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    sharp = example("gpu_frame").with_pycuda(
        lambda given: Result(Pointed(255 - given.array), None, {}), frame
    )
    np.testing.assert_array_equal(sharp, 255 - frame)


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from allfocus.runtime.gpu import find_gpus

    if find_gpus().devices:
        pytest.skip("there is a GPU")
    assert example("gpu_frame").main([]) == 1
    assert "gpu_frame: " in capsys.readouterr().err


def test_gstreamer(capsys: pytest.CaptureFixture[str]) -> None:
    status = example("gstreamer").main(["--frames", "3"])
    told = capsys.readouterr()
    if status == 0:
        assert "frames of 320x240" in told.out
    else:
        assert "takes an OpenCV that was built with GStreamer" in told.err
        assert "0 frames" in told.out


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the memory as a file")
def test_a_ring_outlives_its_reader() -> None:
    """As one that a C program has made: Python must not remove it at its own end."""
    module = example("ring_buffer")
    name = f"allfocus-{uuid.uuid4().hex[:8]}"
    place = Path("/dev/shm") / name
    head = bytearray(module.SIZE + 64 * 20)
    module.HEAD.pack_into(head, 0, module.MAGIC, 1, 20, 20, 64, 3)
    head[module.ENDED] = 1
    command = [sys.executable, str(EXAMPLES / "ring_buffer.py"), name]
    absent = subprocess.run(command, capture_output=True, text=True)
    assert absent.returncode == 1
    assert f"ring_buffer: {name}: " in absent.stderr
    assert "Traceback" not in absent.stderr
    place.write_bytes(head)
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert place.exists()
    finally:
        place.unlink()


def test_a_ring_of_frames_in_shared_memory() -> None:
    """A writer that is quicker than its reader waits; rows have gaps; nothing is lost."""
    module = example("ring_buffer")
    name = f"allfocus-{uuid.uuid4().hex[:8]}"
    ring, memory = module.Ring.make(name, slots=3, width=50, height=20)
    assert ring.stride == 192
    pictures = [
        np.random.default_rng(n).integers(0, 256, (20, 50, 3)).astype(np.uint8) for n in range(10)
    ]

    def write(ring: Any) -> None:
        for picture in pictures:
            while not ring.write(picture):
                pass
        ring.count(module.ENDED, 1)

    def inverted(image: Any) -> Result:
        assert not image.flags["C_CONTIGUOUS"]
        return Result(255 - image, None, {})

    other = shared_memory.SharedMemory(name)
    try:
        writer = Thread(target=write, args=(ring,))
        writer.start()
        reader = module.Ring(other)
        found = [result.image for result in module.deblur_all(inverted, reader)]
        writer.join(5)
        assert len(found) == 10
        for picture, result in zip(pictures, found, strict=True):
            np.testing.assert_array_equal(result, 255 - picture)
    finally:
        del reader, ring, writer  # views of the memory
        other.close()
        memory.close()
        memory.unlink()


def test_memory_that_is_no_ring_is_refused() -> None:
    module = example("ring_buffer")
    memory = shared_memory.SharedMemory(create=True, size=256)
    try:
        with pytest.raises(InputError, match="no ring of frames"):
            module.Ring(memory)
        assert module.main([]) == 2
    finally:
        memory.close()
        memory.unlink()
