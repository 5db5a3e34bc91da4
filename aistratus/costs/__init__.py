"""What things cost: a dated price list, and what each declared resource takes from it."""
