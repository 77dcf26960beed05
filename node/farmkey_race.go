//go:build race

package node

// The race detector makes many seconds and a gigabyte of the full work, which
// nobody waits for in a test. No such build is handed out.
const scryptWork = 10
