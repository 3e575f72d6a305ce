"""Names of devices: two random words, so that people can tell their devices apart and nobody else can."""

from collections.abc import Collection

from exuvia.rules.allocation import Bits

# 128 words each, so that seven bits choose among them, each alike.
_FIRST = """
    able agile amber ample apt arctic autumn azure balmy basic bold brave breezy brief bright brisk
    broad bronze calm candid canny cheery chief civil classy clean clear clever cloudy coastal cosmic
    cozy crisp curly daily dapper daring dawn deep deft dewy eager early earthy easy elder elegant
    even exact fabled fair famous fancy fast festive fine firm fleet fluent fond frank fresh frosty
    gentle giant glad glossy golden good grand great green happy hardy hasty hazel hearty honest humble
    icy ideal indigo ivory jolly keen kind lanky large light lively loyal lucid lucky lunar magic
    mellow merry mighty mild misty modest neat nimble noble north olive open patient placid plain
    polar polite prime proud quick quiet rapid rosy round royal rustic sandy silent silver simple
    snowy solar steady
"""
_SECOND = """
    acorn alder anchor apple ash aspen badger bamboo barley basil bay beacon beaver beech birch bison
    bonfire boulder breeze brook cactus canyon castle cedar cherry clover cobalt comet condor coral
    cove crane creek cricket crow cypress daisy delta dingo dolphin dune eagle elk elm falcon fern
    ferry fig finch fjord flint forest fox garnet geyser ginger glacier gorge grove gull hamlet harbor
    hawk heath heron hill hollow ibex iris island ivy jasper juniper kelp kestrel lagoon lake larch
    lark laurel lemon lichen lily linden lotus lynx maple marble marsh meadow mesa mint moose moss
    myrtle nectar oak oasis ocean olive opal orchid otter owl panda pebble pepper pine plover pond
    poplar puffin quail quartz raven reed ridge river robin sage salmon seal sparrow spruce stone swan
    thistle tulip
"""


FIRST = tuple(_FIRST.split())
SECOND = tuple(_SECOND.split())
LONGEST_NAME = 24
"""Letters that a name has at most, with the space."""


def draw_name(taken: Collection[str], bits: Bits) -> str:
    """Return two words, such as "quiet otter", that none of the account's devices is called."""
    while (name := f"{FIRST[bits(7)]} {SECOND[bits(7)]}") in taken:
        pass
    return name
