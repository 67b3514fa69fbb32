"""One node from its settings: what it stands on (`world`), its life (`life`), how it is built (`build`). No reactor of its own."""
