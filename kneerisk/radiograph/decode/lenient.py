"""JPEG frames that imagecodecs cannot read, by GDCM in a process of its own.

GDCM forgives malformed streams (12-bit JPEG by some older encoders) but a damaged one can crash it: the
crash then ends the small process here, and the file costs its own row. Its libjpeg says what it forgave.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from kneerisk.radiograph.decode.streams import StreamError
from kneerisk.radiograph.whole.jpeg import loss_in_words

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

_TIMEOUT_S = 60


def decode_lenient(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one JPEG frame (pydicom's plugin interface); the container's width stays the header's.

    Raises:
        StreamError: GDCM could not read it either, crashed or took over a minute; or data are lost.
    """
    done = _gdcm(src, runner)
    expected = runner.rows * runner.columns * runner.samples_per_pixel * runner.bits_allocated // 8
    if done.returncode != 0 or len(done.stdout) != expected:
        raise StreamError("the lenient decoder cannot read the frame either")
    if (loss := loss_in_words(done.stderr.decode("ascii", "replace"))) is not None:
        raise StreamError(f"part of the picture is lost: {loss}")
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return done.stdout


def loss_in_12_bits(src: bytes, runner: DecodeRunner) -> str | None:
    """What GDCM's libjpeg warns of as it decodes a JPEG frame of up to 12 bits by a cosine transform."""
    return loss_in_words(_gdcm(src, runner).stderr.decode("ascii", "replace"))


def _gdcm(src: bytes, runner: DecodeRunner) -> subprocess.CompletedProcess[bytes]:
    words = {
        "syntax": str(runner.transfer_syntax),
        "space": str(runner.photometric_interpretation),
        "rows": runner.rows,
        "columns": runner.columns,
        "samples": runner.samples_per_pixel,
        "allocated": runner.bits_allocated,
        "stored": runner.bits_stored,
        "signed": runner.pixel_representation,
    }
    command = [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(words)]
    try:
        return subprocess.run(command, input=src, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StreamError("the lenient decoder took over a minute") from error


def main() -> None:
    """Decode the frame on standard input, described by the first argument, to standard output."""
    import gdcm

    words = json.loads(sys.argv[1])
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    space = gdcm.PhotometricInterpretation.GetPIType(words["space"])
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((words["columns"], words["rows"], 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(space))
    if words["samples"] > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(words["syntax"])))
    stored = words["stored"]
    image.SetPixelFormat(
        gdcm.PixelFormat(words["samples"], words["allocated"], stored, stored - 1, words["signed"])
    )
    sys.stdout.buffer.write(image.GetBuffer().encode("utf-8", "surrogateescape"))
