"""Rows into cells: columns, formats, filters and sort orders, without any widget."""
