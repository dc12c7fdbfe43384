"""Published studies: protocol, budget, ledger, tables, page."""
