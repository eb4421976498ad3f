"""Classes and vendor models as data; no code lives here."""
