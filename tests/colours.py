"""The contrast of two colours, as the Web Content Accessibility Guidelines 2 define it."""


def parsed(colour):
    """Return red, green and blue, from 0 to 255, of "#rrggbb" or of "r g b"."""
    if colour.startswith("#"):
        return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(map(float, colour.split()))


def contrast(a, b):
    """Return the ratio, from 1 to 21, of two colours given as red, green and blue."""

    def luminance(colour):
        linear = [
            c / 255 / 12.92 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)
