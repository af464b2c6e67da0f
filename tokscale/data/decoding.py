"""From the bytes of an image file to upright RGB pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

try:
    from simplejpeg import decode_jpeg, decode_jpeg_header
except (
    ImportError
):  # it ships wheels for the common platforms only; Pillow decodes to the same pixels, at half the speed
    decode_jpeg = None

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")

_JPEG = b"\xff\xd8\xff"
_SCAN, _APPLICATION = 0xDA, 0xE1  # what begins the pixels, and what holds an EXIF block

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(Exception):
    """These bytes are no image that can be used; the message says why."""


def decode(data: bytes, enough: int | None = None) -> NDArray[np.uint8]:
    """The first frame as upright 8-bit RGB pixels (h, w, c); raises ``UnreadableImage``.

    A JPEG whose short side is at least twice ``enough`` may come at a half, a fourth or an eighth of its size, which
    spares most of the work; its short side is not below ``enough`` then.

    Transparent images are composited on white, 16-bit grey is scaled to 8 bits, CMYK is converted by Pillow's plain
    formula (no colour profile is applied anywhere), and the EXIF orientation is undone.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    plain = _plain_jpeg(data, enough)
    if plain is not None:
        return plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of harmless oddities, such as a damaged EXIF block
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data)) as image:
                turn = _UPRIGHT.get(_orientation(image))
                rgb = _as_rgb(image)
                return np.array(
                    rgb if turn is None else rgb.transpose(turn)
                )  # which, unlike asarray, can be written to
        except MemoryError:
            raise
        except UnidentifiedImageError as error:
            # Pillow's own message holds the address of the buffer, which differs from run to run.
            raise UnreadableImage("not an image that Pillow can identify") from error
        except Exception as error:  # Pillow's plugins raise almost any class on damaged bytes
            raise UnreadableImage(f"{type(error).__name__}: {error}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which may be whole
        return 1


def _plain_jpeg(data: bytes, enough: int | None) -> NDArray[np.uint8] | None:
    """Decode a grey or colour JPEG by libjpeg-turbo; None leaves it to Pillow, also to say what is wrong with it.

    So does an EXIF block, which may ask for the image to be turned.
    """
    if decode_jpeg is None or not data.startswith(_JPEG) or _may_be_turned(data):
        return None
    try:
        height, width, colours, _ = decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        part = _reduction(min(height, width), enough)
        # The decoder takes the smallest size that is no smaller than these.
        least = {} if part == 1 else {"min_height": height // part, "min_width": width // part, "min_factor": part}
        pixels: NDArray[np.uint8] = decode_jpeg(data, "RGB", **least)
    except ValueError:
        return None
    return pixels


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG has an EXIF block, or a header that says so in an unusual way; by a walk along its segments."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] >= 0xC0:
        kind = data[place + 1]
        if kind == _SCAN or (kind == _APPLICATION and data.startswith(b"Exif", place + 4)):
            return kind != _SCAN
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return True


def _reduction(side: int, enough: int | None) -> int:
    """By how much a side can be divided and still be enough; of 1, 2, 4 and 8, for which decoders have fast ways."""
    return 1 if enough is None else next(part for part in (8, 4, 2, 1) if part == 1 or side >= part * enough)


def _as_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return image if image.mode == "RGB" else image.convert("RGB")
