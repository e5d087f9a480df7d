"""Multi-epoch training of embedding tables for ads conversion, measured."""
