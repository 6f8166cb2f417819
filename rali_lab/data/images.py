"""Image files as (H, W, 3) uint8 sRGB arrays, or an error that names the file and the way out."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 50_000_000
MIN_SIDE = 16

PathLike = str | os.PathLike[str]


class ImageError(ValueError):
    """An image, or a folder of images, that cannot be used."""


class ColourProfileWarning(UserWarning):
    """An embedded colour profile could not be used, and the pixel values were taken as sRGB."""


def read_image(
    path: PathLike, *, max_pixels: int = MAX_PIXELS, min_side: int = MIN_SIDE
) -> np.ndarray:
    """An image file as it is displayed: upright, opaque, 8-bit sRGB.

    In this order: the size is checked before a pixel is decoded; EXIF rotation is
    applied; 16-bit values lose their low byte; an embedded ICC profile is converted to sRGB
    (without one, RGB is taken as sRGB and CMYK is converted by Pillow's plain formula);
    transparency is composited on white; grey and palette become RGB. Of an animation or a
    multi-page file the first image is read. Nothing is resized.

    Parameters
    ----------
    path
        A JPEG, PNG, WebP, BMP or TIFF file, recognised by its content, whatever its extension.
    max_pixels
        The largest width x height accepted; decoding takes about 3 to 8 bytes per pixel.
    min_side
        The smallest width and height accepted, in pixels.

    Returns
    -------
    ndarray
        Pixels, (H, W, 3) uint8, a writable copy.

    Raises
    ------
    ImageError
        Missing, empty, not an image, damaged or truncated, too small, too large, or of a pixel type
        without a known full scale. Bytes overwritten inside a JPEG that still ends properly are
        beyond what its decoder can notice.
    RuntimeError
        Pillow's global `LOAD_TRUNCATED_IMAGES` is on, so damage could not be noticed.

    Warns
    -----
    ColourProfileWarning
        An embedded profile is damaged or belongs to another kind of image.

    Examples
    --------
    >>> import os, tempfile
    >>> name = os.path.join(tempfile.mkdtemp(), "grey.png")
    >>> Image.new("L", (32, 20), 7).save(name)
    >>> pixels = read_image(name)
    >>> pixels.shape, pixels.dtype.name, int(pixels.max())
    ((20, 32, 3), 'uint8', 7)
    """
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on; _check_size is stricter.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, image.size, max_pixels, min_side)
                image.load()
                upright = ImageOps.exif_transpose(image)
        return _to_srgb(upright, path)
    except (ImageError, ColourProfileWarning):  # a warning, where the caller makes it an error
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path}: gigantic, refused before decoding ({error}); scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: not a JPEG, PNG, WebP, BMP or TIFF image, or damaged at its start; "
            "convert it (for example to PNG) or fetch it again"
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, and more
        raise ImageError(
            f"{path}: cannot be read ({error}); if it is damaged or truncated, fetch or export it"
            " again"
        ) from error


def find_images(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The image files among files and folders: files as given, folders recursively and sorted.

    In folders an image is known by its extension (`EXTENSIONS`, any case) and hidden files are left
    out; a file that is named itself is kept whatever its extension. A file reached twice is listed
    once.

    Raises
    ------
    ImageError
        A path does not exist, or a folder holds no image.

    Examples
    --------
    >>> find_images("no/such/place")
    Traceback (most recent call last):
    ...
    rali_lab.data.images.ImageError: no/such/place: does not exist; check the path
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    return list(dict.fromkeys(found for path in paths for found in _expand(Path(path))))


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise ImageError(f"{path}: does not exist; check the path")
        return [path]
    files = (
        p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")
    )
    images = sorted(p for p in files if p.is_file())
    if not images:
        raise ImageError(
            f"{path}: folder without images; expected {', '.join(sorted(EXTENSIONS))} files"
        )
    return images


def _check_file(path: Path) -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and hides damage; set it to False"
        )
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, expected a file; list its images with find_images")
    if not path.exists():
        raise ImageError(f"{path}: does not exist; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise ImageError(f"{path}: empty file (0 bytes); fetch or export it again")


def _check_size(path: Path, size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    width, height = size
    if min(size) < min_side:
        raise ImageError(
            f"{path}: too small, {width}x{height} pixels where each side needs at least {min_side};"
            " use a larger image"
        )
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: gigantic, {width}x{height} is {width * height / 1e6:.0f} million pixels and"
            f" the limit is {max_pixels / 1e6:g} million; scale it down, or pass a larger"
            " max_pixels"
        )


def _to_srgb(image: Image.Image, path: Path) -> np.ndarray:
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _sixteen_to_eight(image, path)
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = image.getchannel("A")
    if image.mode != "CMYK":
        image = image.convert("L" if grey else "RGB")
    if profile:
        image = _apply_profile(image, profile, path)
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image)


def _sixteen_to_eight(image: Image.Image, path: Path) -> Image.Image:
    """The high byte of 16-bit grey, which is also what Pillow keeps of 16-bit colour."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > 65535:
        raise ImageError(
            f"{path}: pixel values {low:g}..{high:g} of type {values.dtype.name} have no known full"
            " scale; export it with 8 or 16 bits per channel"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes, path: Path) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # An RGB profile is common in exported grey photographs.
        if source.profile.xcolor_space == "RGB " and image.mode == "L":
            image = image.convert("RGB")
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        message = (
            f"{path}: colour profile unusable for an image of mode {image.mode} ({error}); taken as"
            " sRGB"
        )
        warnings.warn(message, ColourProfileWarning, stacklevel=4)
        return image
