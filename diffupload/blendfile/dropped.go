package blendfile

// This file is the closed list of what a canonical .blend does not have of its
// original. docs/formats.md gives the reasons.

// droppedBlocks are the codes of blocks that go, with the DATA blocks that
// follow them: the window manager, screens and workspaces, the thumbnail and
// the summary for render farms.
var droppedBlocks = map[string]bool{"WM": true, "SR": true, "SN": true, "WS": true, "TEST": true, "REND": true}

type member struct{ owner, name string }

// clearedFields are zero in a canonical file, in every struct that holds their
// struct. An empty name stands for all of the struct.
var clearedFields = map[member]bool{
	// Reading makes the list of datablocks anew, in the order of the file.
	{"ID", "next"}: true,
	{"ID", "prev"}: true,
	// Numbers and marks of one run of Blender.
	{"ID", "newid"}:                  true,
	{"ID", "session_uuid"}:           true,
	{"ID", "session_uid"}:            true,
	{"ID", "recalc"}:                 true,
	{"ID", "recalc_up_to_undo_push"}: true,
	{"ID", "recalc_after_undo_push"}: true,
	{"ID", "icon_id"}:                true,
	{"ID", "py_instance"}:            true,
	{"ID", "runtime"}:                true,
	{"SessionUUID", "uuid_"}:         true,
	{"SessionUID", "uid_"}:           true,
	// Counters of changes, which loading moves.
	{"CurveProfile", "changed_timestamp"}: true,
	{"CurveMapping", "changed_timestamp"}: true,
	// Where and how the file was saved.
	{"FileGlobal", "filename"}:  true,
	{"FileGlobal", "filepath"}:  true,
	{"FileGlobal", "curscreen"}: true,
}

func cleared(owner, name string) bool { return clearedFields[member{owner, name}] }

// keptBits returns the bits that are kept of a field of flags.
func keptBits(owner, name string) (keep uint32, ok bool) {
	if owner == "FileGlobal" && name == "fileflags" {
		// Compressed; saved for recovery, read from recovery.
		return ^uint32(1<<1 | 1<<23 | 1<<24), true
	}
	return 0, false
}

// texts are fields that lead to a text that ends in NUL. What follows it up to
// a multiple of four bytes means nothing.
var texts = map[member]bool{
	{"IDPropertyUIData", "description"}:         true,
	{"IDPropertyUIDataString", "default_value"}: true,
	{"IDPropertyUIDataEnumItem", "identifier"}:  true,
	{"IDPropertyUIDataEnumItem", "name"}:        true,
	{"IDPropertyUIDataEnumItem", "description"}: true,
}

// charArrays are fields that hold a text that ends in NUL. What
// follows it in the field comes out of memory that nobody has written.
var charArrays = map[member]bool{
	{"FileGlobal", "colorspace_scene_linear_name"}: true,
}
