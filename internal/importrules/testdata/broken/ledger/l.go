// Package ledger is fine but for its test.
package ledger
