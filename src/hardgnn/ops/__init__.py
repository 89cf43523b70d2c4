"""Operations where the time goes: a plain reference that any device runs, and a fast form for the processor."""
