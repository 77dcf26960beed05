"""Writes every property of every datablock of the open file, one a line: the way to it, "=", its value.

Nothing is left out but what would lead out of the data: window managers, screens and workspaces. A struct that was met
before within the same datablock is written as the way on which it was met, so that it also shows where pointers lead.
Long collections are written as one hash for each property of their items.
"""

import array
import hashlib

import bpy

LONG = 48  # items from which on a collection is hashed
DEEP = 40
OUTSIDE = {"window_managers", "screens", "workspaces", "all_ids"}  # all_ids has each a second time
# What leads out of the datablock, or is made anew whenever it is asked for.
NOT_FOLLOWED = {
    "rna_type",
    "bl_rna",
    "depsgraph",  # written by seen.py
    "uv_sculpt",  # reading its brush takes Blender 4.2 down
    "bl_system_properties_get",
}
# Attributes that Blender 4 makes for a UV map once somebody asks for its selection.
SELECTIONS = (".vs.", ".es.", ".pn.")


def reference(item):
    """Names a datablock in one line."""
    library = getattr(item, "library", None)
    packed = " packed" if getattr(item, "is_linked_packed", False) else ""
    return "%s %r%s%s" % (type(item).__name__, item.name_full, " of %r" % library.filepath if library else "", packed)


def selection(item):
    return isinstance(item, bpy.types.Attribute) and item.name.startswith(SELECTIONS)


def plain(value):
    """The text of a value that is no struct, exact to the last bit; None where it is one."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, bytes):
        return repr(value) if len(value) < 64 else "%d bytes %s" % (len(value), hashlib.md5(value).hexdigest())
    if isinstance(value, (set, frozenset)):
        return "{%s}" % ", ".join(sorted(map(str, value)))
    if isinstance(value, bpy.types.bpy_struct):
        return None
    try:
        items = [plain(v) for v in value]
    except TypeError:
        return repr(value)
    if len(items) > LONG:
        return "%d values %s" % (len(items), hashlib.md5("\0".join(map(str, items)).encode("utf-8", "surrogateescape")).hexdigest())
    return "(%s)" % ", ".join(map(str, items))


class Writer:
    def __init__(self, all_items=False):
        self.lines = []
        self.all_items = all_items
        self.met = {}

    def line(self, path, value):
        self.lines.append("%s=%s" % (path, value))

    def datablock(self, path, item):
        self.met = {}
        self.struct(path, item, 0)

    def value(self, path, value, depth):
        """Writes whatever Python gives for a property, or an item."""
        text = plain(value)
        if text is not None:
            self.line(path, text)
        elif isinstance(value, bpy.types.ID) and not value.is_embedded_data:
            self.line(path, reference(value))
        else:
            self.struct(path, value, depth)

    def struct(self, path, item, depth):
        key = (item.as_pointer(), item.bl_rna.identifier)
        if key in self.met:
            self.line(path, "see " + self.met[key])
            return
        if depth > DEEP:
            raise RuntimeError("too deep: " + path)
        self.met[key] = path
        self.line(path, "<%s>" % item.bl_rna.identifier)
        for prop in item.bl_rna.properties:
            if prop.identifier not in NOT_FOLLOWED:
                self.property(path + "." + prop.identifier, item, prop, depth + 1)
        self.custom(path, item)

    def property(self, path, item, prop, depth):
        try:
            value = getattr(item, prop.identifier)
        except Exception as e:  # a getter that refuses says so in both files
            self.line(path, "%s: %s" % (type(e).__name__, e))
            return
        if prop.type == "COLLECTION":
            self.collection(path, value, depth)
        elif prop.type == "FLOAT" and prop.identifier == "pixels":
            self.pixels(path, value)
        else:
            self.value(path, value, depth)

    def pixels(self, path, value):
        if len(value) == 0 or not hasattr(value, "foreach_get"):
            self.line(path, plain(value))
            return
        buffer = array.array("f", bytes(4 * len(value)))
        value.foreach_get(buffer)
        self.line(path, "%d values %s" % (len(buffer), hashlib.md5(buffer).hexdigest()))

    def collection(self, path, items, depth):
        try:
            count = len(items)
        except TypeError:
            self.line(path, "no length")
            return
        if count <= LONG and any(selection(i) for i in items):
            items = [i for i in items if not selection(i)]
            count = len(items)
        self.line(path + "#", count)
        for name in ("active", "active_index", "active_color_index", "render_color_index", "active_point", "active_name", "default_color_name"):
            if hasattr(items, "bl_rna") and name in items.bl_rna.properties:
                self.property("%s.%s" % (path, name), items, items.bl_rna.properties[name], depth)
        if count <= LONG or self.all_items or isinstance(items[0], bpy.types.ID):
            for i, item in enumerate(items):
                self.value("%s[%d]" % (path, i), item, depth)
            return
        self.long(path, items, count, depth)

    def long(self, path, items, count, depth):
        """Hashes a long collection, property by property."""
        kinds = {type(i) for i in items}
        first = items[0]
        numbers = set()
        if len(kinds) == 1:
            for prop in first.bl_rna.properties:
                if prop.type in ("FLOAT", "INT", "BOOLEAN") and not (prop.is_array and (prop.array_length == 0 or list(prop.array_dimensions)[1:2] not in ([], [0]))):
                    total = count * (prop.array_length if prop.is_array else 1)
                    buffer = [False] * total if prop.type == "BOOLEAN" else array.array("f" if prop.type == "FLOAT" else "i", bytes(4 * total))
                    try:
                        items.foreach_get(prop.identifier, buffer)
                    except (TypeError, RuntimeError, AttributeError, SystemError):
                        continue
                    if prop.type == "BOOLEAN":
                        buffer = bytes(buffer)
                    numbers.add(prop.identifier)
                    self.line("%s[*].%s" % (path, prop.identifier), hashlib.md5(buffer).hexdigest())
        texts = {}
        for i, item in enumerate(items):
            for prop in item.bl_rna.properties:
                if prop.identifier in NOT_FOLLOWED or prop.identifier in numbers:
                    continue
                inner = Writer()
                inner.met = self.met
                inner.property("%s[%d].%s" % (path, i, prop.identifier), item, prop, depth + 1)
                texts.setdefault(prop.identifier, hashlib.md5()).update("\n".join(inner.lines).encode("utf-8", "surrogateescape"))
        for name, text in texts.items():
            self.line("%s[*].%s" % (path, name), text.hexdigest())

    def custom(self, path, item):
        """Writes custom properties and, since Blender 5, those of the system."""
        try:
            names = sorted(item.keys())
        except (TypeError, AttributeError):
            names = []
        for name in names:
            self.custom_value("%s[%r]" % (path, name), item[name])
            try:
                shown = item.id_properties_ui(name).as_dict()
            except (TypeError, KeyError, AttributeError):
                continue
            for key in sorted(shown):
                self.custom_value("%s[%r]?%s" % (path, name, key), shown[key])
        try:
            group = item.bl_system_properties_get()
        except (TypeError, AttributeError, RuntimeError):
            group = None
        if group is not None:
            self.custom_value(path + "?system", group)

    def custom_value(self, path, value):
        if isinstance(value, bpy.types.ID):
            self.line(path, reference(value))
        elif hasattr(value, "to_dict") or isinstance(value, dict):
            self.line(path + "#", "%d in a group" % len(value))
            for name in value.keys():  # in order
                self.custom_value("%s[%r]" % (path, name), value[name])
        elif hasattr(value, "typecode"):
            self.line(path, "%s %s" % (value.typecode, plain(value.to_list())))
        elif isinstance(value, (list, tuple)) and any(plain(v) is None or hasattr(v, "to_dict") for v in value):
            self.line(path + "#", "%d in a list" % len(value))
            for i, v in enumerate(value):
                self.custom_value("%s[%d]" % (path, i), v)
        else:
            self.value(path, value, 0)


def write(path, all_items=False):
    w = Writer(all_items)
    for prop in bpy.data.bl_rna.properties:
        if prop.type != "COLLECTION":
            if prop.identifier != "rna_type":
                w.property("file." + prop.identifier, bpy.data, prop, 0)
            continue
        if prop.identifier in OUTSIDE:
            continue
        group = getattr(bpy.data, prop.identifier)
        w.line(prop.identifier + "#", len(group))
        for item in group:
            w.datablock("%s[%s]" % (prop.identifier, reference(item)), item)
    window = bpy.context.window
    w.line("context.scene", reference(bpy.context.scene))
    w.line("context.view_layer", bpy.context.view_layer.name)
    w.line("context.window", None if window is None else "%s, %s" % (window.scene.name, window.view_layer.name))
    save(path, w)


def save(path, writer):
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as f:
        f.writelines(line.replace("\n", "\\n") + "\n" for line in writer.lines)
