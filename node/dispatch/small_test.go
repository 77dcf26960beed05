package dispatch

import (
	"os"
	"reflect"
	"testing"
	"unsafe"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if !reflect.DeepEqual(quiet, &trial{}) {
		println("somebody wrote to what all judged results share")
		code = 1
	}
	os.Exit(code)
}

// There are a hundred thousand tasks and results, and ten thousand devices with
// two leases each: a field more is megabytes.
func TestWhatThereIsMuchOfIsSmall(t *testing.T) {
	for what, x := range map[string]struct{ size, most uintptr }{
		"task":   {unsafe.Sizeof(task{}), 144},
		"result": {unsafe.Sizeof(ret{}), 112},
		"lease":  {unsafe.Sizeof(lease{}), 176},
		"grant":  {unsafe.Sizeof(grant{}), 32},
		"join":   {unsafe.Sizeof(join{}), 48},
		"seat":   {unsafe.Sizeof(seat{}), 360},
		"worker": {unsafe.Sizeof(worker{}), 536},
	} {
		if x.size > x.most {
			t.Errorf("a %s has %d bytes, goal <= %d", what, x.size, x.most)
		}
	}
}
