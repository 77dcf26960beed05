package node

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Blocks are pinned under the job and the role they play in it, which is also
// what decides who may read them.

// ownContent is what this machine's job gives to workers.
func ownContent(id job.ID) string { return "content " + string(id) }

// ownResults is what workers gave back for this machine's job.
func ownResults(id job.ID) string { return "results " + string(id) }

// input is another machine's job content, kept here to work on it.
func input(requester peer.ID, id job.ID) string {
	return "input " + requester.String() + " " + string(id)
}

// output is what this machine made for another's job.
func output(requester peer.ID, id job.ID) string {
	return "output " + requester.String() + " " + string(id)
}

// wardOf is another machine's job that this one is a steward of: what it needs to
// go on, and what it did. It is its requester's to read.
func wardOf(requester peer.ID, id job.ID) string {
	return "ward " + requester.String() + " " + string(id)
}

// sharedTree is a Blender that this machine lets members have.
func sharedTree(root string) string { return "blender " + root }

// fetchedTree is a Blender that is being fetched. It is nobody's to read.
func fetchedTree(root string) string { return "blender coming " + root }

// specimens owns what is in every file of the programs on this machine. It is
// nobody's to read.
const specimens = "specimens"
