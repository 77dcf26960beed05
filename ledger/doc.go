// Package ledger is the book of what was found about peers: a receipt for work,
// the verdict on it, and what they come to.
//
// An Entry is one verdict on one leaf of a receipt, signed by this machine. The
// Book is an append-only log of entries and of the receipts they speak of; a
// peer's score and its credit are sums over it. A leaf counts once: a later
// verdict on it takes the place of an earlier one.
package ledger
