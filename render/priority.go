package render

import "fmt"

// Priority is how a process tree competes with the machine's other programs.
type Priority int

// The priorities. A process of a low one also takes longer to be gone after it
// was killed, because its end is work of its own: with all cores busy 0.7 s
// instead of 0.1 s at Low, and seconds at Idle, which is why Low is what a desk
// should have.
const (
	Normal Priority = iota // as any program
	Low                    // a tenth of what others get where both want all
	Least                  // a seventieth: for work of the owner's own that the owner does not wait for
	Idle                   // only what nobody else wants
)

// ParsePriority reads a priority's name.
func ParsePriority(s string) (Priority, error) {
	switch s {
	case "normal", "":
		return Normal, nil
	case "low":
		return Low, nil
	case "idle":
		return Idle, nil
	}
	return Normal, fmt.Errorf("%q is no priority; it may be idle, low or normal", s)
}
