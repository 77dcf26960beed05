//go:build amd64 || arm64

package chunker

// groupBytes is what a function in assembly looks at in one go.
const groupBytes = 64

// scanGroups makes a kernel of such a function. It goes over whole groups only,
// n being their bytes, and returns the first nominated position, counted from
// that of p, or n. From filterWindow-1 bytes before p on it reads.
//
// The last group may reach beyond n, as long as there are bytes: what it finds
// there is left out.
func scanGroups(groups func(p *byte, n int, f *filter) int) func(f *filter, d []byte, i, n int) int {
	return func(f *filter, d []byte, i, n int) int {
		whole := min(n-i+groupBytes-1, len(d)-i) &^ (groupBytes - 1)
		if i >= n || whole <= 0 {
			return scanPortable(f, d, i, n)
		}
		_, _ = d[i+1-filterWindow], d[i+whole-1] // what is read lies between them
		k := i + groups(&d[i], whole, f)
		if k < i+whole || k >= n {
			return min(k, n)
		}
		return scanPortable(f, d, k, n)
	}
}
