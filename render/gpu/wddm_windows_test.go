package gpu

import "testing"

// Whatever this Windows counts, asking for it twice ends in processes or in an
// error that says what is missing.
func TestWindowsCountersAreAsked(t *testing.T) {
	var c counters
	defer c.close()
	for i := range 2 {
		all, counted, err := c.read()
		if err != nil {
			t.Skipf("NOT RUN: %v", err)
		}
		if counted != (i > 0) {
			t.Errorf("question %d: counted %v", i, counted)
		}
		for l, ps := range all {
			t.Logf("adapter %x at %+v: %d processes", l, c.place(l), len(ps))
		}
	}
}
