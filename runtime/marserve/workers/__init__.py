"""The processes that run handlers: how they are started, spoken to, watched and ended."""
