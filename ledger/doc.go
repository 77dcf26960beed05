// Package ledger is the book of what was found about peers: a receipt for work,
// the verdict on it, and what they come to.
//
// An Entry is one verdict on one leaf of a receipt, signed by this machine; the
// receipt is signed by the worker. The Book is an append-only log of entries, of
// the receipts they speak of, of bans and pardons, and of the words of members.
// A peer's Account is a sum over it, for each farm by itself. A leaf counts
// once: a later verdict on it takes the place of an earlier one.
//
// Credit is for verified work, and the newest of it is a stake: a rejection that
// a third peer confirmed takes it and bans the peer for a while. Such a
// rejection is told to the members of the farm as a Word, and a machine's owner
// can take it back.
package ledger
