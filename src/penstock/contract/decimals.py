"""Decimals of a fixed number of digits: whether a number fits, its bytes and its text. Nothing is ever rounded."""

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

from penstock.contract.record import MAX_DIGITS, Digits

_EXACT = Context(prec=MAX_DIGITS, traps=[DivisionByZero, Inexact, InvalidOperation, Overflow])


def find_excess(value: Decimal, digits: Digits) -> str:
    """Return what a number has too much of for `digits`, or '' if it fits. Zeros at the end do not count."""
    if not value.is_finite():
        return "is not a finite number"
    whole = digits.precision - digits.scale
    if value and value.adjusted() >= whole:
        return f"at most {whole} digits before the decimal point"
    try:
        to_scale(value, digits.scale)
    except Inexact:
        return f"at most {digits.scale} decimals"
    return ""


def to_scale(value: Decimal, scale: int) -> Decimal:
    """Return the same number with exactly `scale` decimals. Raises `decimal.DecimalException` if it has more."""
    return value.quantize(Decimal((0, (1,), -scale)), context=_EXACT)


def encode_unscaled(value: Decimal, scale: int) -> bytes:
    """Return value * 10^scale in two's complement, big-endian and as short as possible, as in Avro and CQL."""
    unscaled = int(to_scale(value, scale).scaleb(scale, _EXACT))
    return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)


def format_decimal(value: Decimal) -> str:
    """Return a number as digits, without an exponent."""
    return format(value, "f")
