// Package job holds the words of idlewild: what is asked (Spec), what is cut
// (Task), leased (Lease), returned (Receipt) and judged (Verdict).
//
// Everything here is a value. The package imports nothing of ours, talks to
// nobody and keeps no state; data flows between packages as these types, while
// behaviour flows through small interfaces that each package declares for
// itself. Whatever is hashed, signed or stored has one encoding: CBOR, core
// deterministic (RFC 8949, 4.2), so that equal values have equal bytes.
//
// A job is what one person asked for. A task is its smallest leasable piece: a
// frame, a Part of one, an item of a batch. A lease is the time-limited right
// to run some tasks; a receipt is the worker's signed account of an attempt; a
// verdict is what checking it found.
package job
