"""Operations: what a change sets off (spec section 7)."""
