"""The pages that there are, in the order of the navigation. A new page is one more line here."""

from __future__ import annotations

from collections.abc import Sequence

from m2mapp.admin.asking import Askings
from m2mapp.admin.pages import Page
from m2mapp.admin.samples import Samples
from m2mapp.admin.site import Doors
from m2mapp.admin.views.account import account
from m2mapp.admin.views.addresses import addresses_page
from m2mapp.admin.views.asked import asked
from m2mapp.admin.views.devices import devices_page
from m2mapp.admin.views.group_form import group_forms
from m2mapp.admin.views.groups import groups
from m2mapp.admin.views.network import NetworkPage
from m2mapp.admin.views.operations import operation_pages
from m2mapp.admin.views.overview import overview
from m2mapp.admin.views.people import People
from m2mapp.admin.views.sign_in import SignIn
from m2mapp.admin.views.timers import timers_page
from m2mapp.admin.views.tree import tree_pages


def all_pages(doors: Doors, samples: Samples, started_s: float) -> Sequence[Page]:
    """The pages of one node. `started_s`: since when it runs, by its clock."""
    first, plots = overview(samples, started_s)
    askings = Askings()
    return (
        first,
        plots,
        *tree_pages(),
        groups(askings),
        asked(askings),
        *group_forms(),
        *operation_pages(),
        timers_page(),
        addresses_page(),
        devices_page(),
        NetworkPage().page(),
        *People(doors.accounts, doors.sessions, doors.signing).pages(),
        account(doors.accounts),
        *SignIn(doors.signing).pages(),
    )
