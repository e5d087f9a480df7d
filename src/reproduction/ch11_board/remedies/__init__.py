"""The remedies that only the board compares: an entry each, and at most one small class each.

They are kept out of `multiepoch`, since nobody should have to maintain what is here to be compared.
"""
