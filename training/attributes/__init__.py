"""Training of attribute networks, from which raters and judges are made."""
