"""The paper's claims and the chapters: one folder per chapter, which its notebook imports."""
