"""Every format, mode and orientation, against Pillow's own path."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tokscale.data import decoding
from tokscale.data.decoding import UnreadableImage, decode


def photo(width=37, height=23):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = [x * 6 % 256, y * 10 % 256, (x + y) * 4 % 256]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(data):
    image = decode(data)
    assert image.dtype == np.uint8
    assert image.shape[2:] == (3,)
    return image.astype(int)


@pytest.fixture(params=["fast", "pillow"], autouse=True)
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(decoding, "decode_jpeg", None)


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "JPEG", "GIF"])
def test_formats(form):
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = encoded(photo(), form, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (pixels(data) == expected).all()
    if form in ("PNG", "BMP", "WEBP"):
        assert (pixels(data) == np.asarray(photo())).all()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(subsampling, progressive):
    data = encoded(photo(61, 45), "JPEG", quality=85, subsampling=subsampling, progressive=progressive)
    assert (pixels(data) == np.asarray(Image.open(io.BytesIO(data)))).all()


def test_grey_palette_and_one_bit():
    grey = photo().convert("L")
    for data in (encoded(grey, "PNG"), encoded(grey, "JPEG", quality=100)):
        assert (pixels(data) == np.asarray(Image.open(io.BytesIO(data)))[..., None]).all()
    palette = photo().quantize(16)
    assert (pixels(encoded(palette, "PNG")) == np.asarray(palette.convert("RGB"))).all()
    bits = photo().convert("1")
    assert (pixels(encoded(bits, "PNG"))[..., 0] == np.asarray(bits) * 255).all()


def test_sixteen_bit_grey_is_scaled():
    levels = np.linspace(0, 65535, 37 * 23).reshape(23, 37).astype(np.uint16)
    result = pixels(encoded(Image.fromarray(levels), "PNG"))
    assert (result == np.round(levels / 257)[..., None]).all()


def test_cmyk_jpeg():
    data = encoded(photo().convert("CMYK"), "JPEG", quality=95)
    assert (pixels(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert np.abs(pixels(data) - np.asarray(photo())).mean() < 12


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_composited_on_white(form):
    alpha = np.arange(37 * 23).reshape(23, 37) % 256
    image = photo()
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    data = encoded(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    weight = alpha[..., None] / 255
    expected = np.asarray(photo()) * weight + 255 * (1 - weight)
    assert np.abs(pixels(data) - expected).max() <= 1


def test_grey_and_palette_transparency():
    grey = photo().convert("LA")
    grey.putalpha(128)
    expected = np.asarray(photo().convert("L"))[..., None] * (128 / 255) + 127
    assert np.abs(pixels(encoded(grey, "PNG")) - expected).max() <= 1
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (pixels(encoded(palette, "PNG")) == [10, 20, 30]).all()
    assert (pixels(encoded(palette, "PNG", transparency=1)) == 255).all()
    assert (pixels(encoded(palette, "PNG", transparency=bytes([255, 0]))) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_orientations(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert decode(data).shape == ((23, 37, 3) if orientation < 5 else (37, 23, 3))
    assert (pixels(data) == np.asarray(expected)).all()


def test_an_orientation_behind_long_comments_is_found():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(), "JPEG", exif=exif)
    comment = b"\xff\xfe\xff\xff" + b"Exif of old" * 5957 + b"comment"[:6]
    assert len(comment) == 2 + 0xFFFF
    turned = decode(data[:2] + 2 * comment + data[2:])
    assert (turned == decode(data)).all()
    plain = encoded(photo(), "JPEG")
    assert (decode(plain[:2] + comment + plain[2:]) == decode(plain)).all()


def test_damaged_exif_does_no_harm():
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff garbage")
    assert pixels(data).shape == (23, 37, 3)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        data = encoded(
            frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        assert (pixels(data) == [255, 0, 0]).all()


def test_what_cannot_be_read_says_why():
    whole = encoded(photo(200, 150), "JPEG", quality=95)
    for data, reason in (
        (b"", "empty"),
        (b"<html>not found</html>", "identify"),
        (whole[: len(whole) // 2], "truncated"),
        (encoded(photo(200, 150), "PNG")[:400], "truncated"),
        (encoded(photo(200, 150), "WEBP")[:400], "."),
        (encoded(photo(200, 150), "BMP")[:400], "."),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            decode(data)


def test_decompression_bomb_is_unreadable():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (10_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
        )
        with pytest.raises(UnreadableImage, match="DecompressionBomb"):
            decode(bomb)


# --- no more pixels than needed ---


@pytest.mark.parametrize(
    ("enough", "part"), [(None, 1), (300, 1), (151, 1), (150, 2), (76, 2), (75, 4), (30, 8), (8, 8)]
)
def test_a_large_jpeg_comes_reduced_and_never_below_what_is_enough(enough, part, request):
    width, height = 403, 301
    data = encoded(photo(width, height).resize((width, height), Image.BICUBIC), "JPEG", quality=95)
    image = decode(data, enough)
    if decoding.decode_jpeg is None:
        assert image.shape == (height, width, 3), "Pillow's way spares nothing"
        return
    assert image.shape == (-(-height // part), -(-width // part), 3)
    assert enough is None or min(image.shape[:2]) >= min(enough, height)


@pytest.mark.parametrize("part", [2, 4, 8])
def test_a_reduced_jpeg_looks_like_the_box_filter_s_picture(part):
    x, y = np.meshgrid(np.linspace(0, 6, 512), np.linspace(0, 4, 384))
    waves = np.stack([np.sin(x) * np.cos(y), np.cos(x + y), np.sin(x - 2 * y)], -1)
    image = Image.fromarray((127 + 100 * waves).round().astype(np.uint8))
    found = decode(encoded(image, "JPEG", quality=95), 384 // part)
    boxed = np.asarray(image.resize((found.shape[1], found.shape[0]), Image.BOX)).astype(int)
    assert np.abs(found - boxed).mean() < 1.5, "levels"


def test_other_formats_and_turned_photographs_come_whole():
    for data in (encoded(photo(64, 48), "PNG"), encoded(photo(64, 48), "JPEG", exif=Image.Exif().tobytes())):
        assert decode(data, 8).shape == (48, 64, 3)
