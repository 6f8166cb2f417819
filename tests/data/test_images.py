"""Image reading: what a file shows is what the array holds, and a bad file is an error that names
it.
"""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from rali_lab.data.images import ColourProfileWarning, ImageError, find_images, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.fixture
def photo():
    """48 wide, 32 high, smooth, with a red top left corner."""
    y, x = np.mgrid[0:32, 0:48]
    pixels = np.stack([5 * x, 7 * y, 3 * (x + y)], -1).astype(np.uint8)
    pixels[:8, :8] = RED
    return Image.fromarray(pixels)


def save(folder, image, name="p.png", **options):
    image.save(folder / name, **options)
    return folder / name


def forged_png(path, width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.jpg"])
def test_every_format_gives_the_image(tmp_path, photo, name):
    options = {"lossless": True} if name == "a.webp" else {"quality": 95} if name == "a.jpg" else {}
    pixels = read_image(save(tmp_path, photo, name, **options))
    assert pixels.dtype == np.uint8 and pixels.shape == (32, 48, 3) and pixels.flags.writeable
    difference = np.abs(pixels.astype(int) - np.asarray(photo))
    assert difference.max() == 0 if name != "a.jpg" else difference.mean() < 8


def test_the_content_decides_not_the_extension(tmp_path, photo):
    np.testing.assert_array_equal(
        read_image(save(tmp_path, photo, "a.jpg", format="PNG")), np.asarray(photo)
    )


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA"])
def test_modes_agree_with_plain_conversion(tmp_path, photo, mode):
    image = photo.convert(mode)
    np.testing.assert_array_equal(
        read_image(save(tmp_path, image)), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (0, -1)),
        (3, (-1, -1)),
        (4, (-1, 0)),
        (5, (0, 0)),
        (6, (0, -1)),
        (7, (-1, -1)),
        (8, (-1, 0)),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp"])
def test_exif_rotation_moves_the_red_corner(tmp_path, photo, name, orientation, corner):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if name == "a.jpg" else {}
    pixels = read_image(save(tmp_path, photo, name, exif=exif, **options))
    assert pixels.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    np.testing.assert_allclose(pixels[corner].astype(int), RED, atol=12)
    other = (corner[0], -1 - corner[1])
    assert np.abs(pixels[other].astype(int) - RED).max() > 60


def test_damaged_exif_leaves_the_image_upright(tmp_path, photo):
    path = save(tmp_path, photo, "a.jpg", exif=b"Exif\0\0no such thing")
    assert read_image(path).shape == (32, 48, 3)


def test_transparency_is_composited_on_white(tmp_path, photo):
    alpha = Image.new("L", photo.size, 255)
    alpha.paste(0, (0, 0, 8, 8))
    alpha.paste(128, (8, 0, 16, 8))
    photo.putalpha(alpha)
    pixels = read_image(save(tmp_path, photo))
    opaque = np.asarray(photo.convert("RGB")).astype(int)
    assert (pixels[:8, :8] == WHITE).all()
    half = (opaque[:8, 8:16] + 255) / 2
    np.testing.assert_allclose(pixels[:8, 8:16], half, atol=1)
    np.testing.assert_array_equal(pixels[8:], opaque[8:])


def test_transparent_palette_entry_and_colour_key_become_white(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((3, 4), 0)
    pixels = read_image(save(tmp_path, image, transparency=0))
    assert tuple(pixels[4, 3]) == WHITE and tuple(pixels[0, 0]) == (10, 20, 30)
    grey = Image.new("L", (20, 20), 7)
    grey.putpixel((3, 4), 9)
    pixels = read_image(save(tmp_path, grey, transparency=9))
    assert tuple(pixels[4, 3]) == WHITE and tuple(pixels[0, 0]) == (7, 7, 7)


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32)]
)
def test_sixteen_bits_keep_their_high_byte(tmp_path, name, dtype):
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(dtype)
    pixels = read_image(save(tmp_path, Image.fromarray(ramp), name))
    np.testing.assert_array_equal(pixels, np.repeat((ramp >> 8)[..., None], 3, -1))
    assert pixels.min() == 0 and pixels.max() == 255


@pytest.mark.parametrize(
    "values", [np.full((20, 20), 0.5, np.float32), np.full((20, 20), 70_000, np.int32)]
)
def test_pixel_types_without_a_full_scale_are_refused(tmp_path, values):
    with pytest.raises(ImageError, match=r"a\.tif: pixel values .* no known full scale; export it"):
        read_image(save(tmp_path, Image.fromarray(values), "a.tif"))


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_is_not_inverted(tmp_path, photo, name):
    """Pillow writes CMYK JPEG the Adobe way: inverted, with the marker that says so."""
    path = save(tmp_path, photo.convert("CMYK"), name)
    assert name == "a.tif" or b"Adobe" in path.read_bytes()
    difference = np.abs(read_image(path).astype(int) - np.asarray(photo))
    assert difference.mean() < (1 if name == "a.tif" else 12)


def linear_profile():
    """An sRGB profile with its tone curves replaced by gamma 1: same primaries, linear light."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", data[128:132])[0]):
        tag, offset, size = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 12] = b"curv" + bytes(8)  # a curve of no points is the identity
            struct.pack_into(">I", data, 140 + 12 * i, 12)
    return bytes(data)


def test_an_embedded_profile_is_converted_to_srgb(tmp_path):
    light = np.linspace(0, 1, 256)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    ramp = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None], 16, 0)[..., None], 3, -1)
    for image in (
        Image.fromarray(ramp),
        Image.fromarray(ramp[..., 0]),
        Image.fromarray(ramp).convert("RGBA"),
    ):
        pixels = read_image(save(tmp_path, image, icc_profile=linear_profile()))
        np.testing.assert_allclose(pixels[0, :, 0], expected, atol=2)


def test_an_srgb_profile_changes_nothing(tmp_path, photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = read_image(save(tmp_path, photo, icc_profile=profile))
    np.testing.assert_allclose(pixels.astype(int), np.asarray(photo), atol=1)


def test_a_damaged_profile_is_said_aloud(tmp_path, photo):
    path = save(tmp_path, photo, icc_profile=b"nonsense")
    with pytest.warns(
        ColourProfileWarning, match=r"p\.png: colour profile unusable .* taken as sRGB"
    ):
        np.testing.assert_array_equal(read_image(path), np.asarray(photo))


# Pillow remarks on a cut TIFF header just before it fails.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"])
def test_a_truncated_file_is_an_error_or_the_whole_image(tmp_path, photo, name):
    """Cut anywhere, a file is refused, unless only its end mark is lost (PNG)."""
    path = save(tmp_path, photo, name)
    data, whole = path.read_bytes(), read_image(path)
    refused = 0
    for size in range(1, len(data), 1 + len(data) // 200):
        path.write_bytes(data[:size])
        try:
            np.testing.assert_array_equal(read_image(path), whole)
        except ImageError as error:
            assert name in str(error) and "fetch" in str(error)
            refused += size <= len(data) * 0.9
    assert refused >= 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist; check the path"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: p.write_text("hello, I am a text"), "not a JPEG, PNG, WebP, BMP or TIFF image"),
        (
            lambda p: Image.new("RGB", (40, 40)).save(p, "GIF"),
            "not a JPEG, PNG, WebP, BMP or TIFF image",
        ),
        (lambda p: Image.new("RGB", (1, 1)).save(p), "too small, 1x1 pixels"),
        (lambda p: Image.new("RGB", (400, 15)).save(p), "too small, 400x15 pixels"),
        (lambda p: forged_png(p, 9_000, 9_000), "gigantic, 9000x9000 is 81 million"),
        (lambda p: forged_png(p, 12_000, 10_000), "gigantic, 12000x10000"),
        (lambda p: forged_png(p, 100_000, 100_000), "gigantic, refused before decoding"),
    ],
)
def test_bad_files_are_named_with_a_way_out(tmp_path, make, message):
    path = tmp_path / "bad.jpg"
    make(path)
    with pytest.raises(ImageError, match=rf"bad\.jpg: {message}") as error:
        read_image(path)
    assert ";" in str(error.value), "a way out follows the semicolon"


def test_limits_are_inclusive_and_can_be_set(tmp_path, photo):
    path = save(tmp_path, photo)
    assert read_image(path, max_pixels=48 * 32, min_side=32).shape == (32, 48, 3)
    with pytest.raises(ImageError, match="gigantic"):
        read_image(path, max_pixels=48 * 32 - 1)
    with pytest.raises(ImageError, match="too small"):
        read_image(path, min_side=33)


def test_refuses_to_read_while_damage_is_hidden(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="set it to False"):
        read_image(save(tmp_path, photo))


def test_find_images_searches_folders_sorted_and_once(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/er/c.webp", "notes.txt", "._a.jpg", "odd.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = find_images([tmp_path / "odd.xyz", tmp_path, tmp_path / "a.jpg"])
    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "odd.xyz",
        "a.jpg",
        "b.PNG",
        "deep/er/c.webp",
    ]
    assert find_images(str(tmp_path / "a.jpg")) == [tmp_path / "a.jpg"]


def test_find_images_says_what_is_not_there(tmp_path):
    with pytest.raises(ImageError, match="folder without images; expected .*png"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="nowhere: does not exist; check the path"):
        find_images([tmp_path / "nowhere"])
