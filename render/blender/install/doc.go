// Package install finds the Blenders of this machine: it looks in the places
// where they usually are, and keeps a list of those that a person added.
//
// A shelf is the folder of what was added. Fetch installs a release: an official
// archive, known by the hash of its bytes, from a mirror that need not be trusted.
package install
