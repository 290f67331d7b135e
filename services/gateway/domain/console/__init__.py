"""The console's own rules: sessions in a cookie, texts in two languages, charts, pasted rows."""
