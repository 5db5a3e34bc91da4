"""What an env costs: by declaration, by its own record, and by AWS's bill.

`prices.py` is the dated price list, `uses.py` and `declared.py` apply it to the declared resources, `spans.py` and
`meter.py` to what ran, `forecast.py` extrapolates a month, and `billed.py` compares with Cost Explorer. Pure, except
`price_api.py`.
"""
