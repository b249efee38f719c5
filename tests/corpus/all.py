"""The whole corpus."""

from tests.corpus import avro, dates, figures, frames, keys, names, rules, sizes, strange, syntax

FAMILIES = (syntax, rules, dates, names, figures, frames, avro, keys, sizes, strange)
CASES = [case for family in FAMILIES for case in family.CASES]
