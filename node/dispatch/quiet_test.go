package dispatch

import (
	"os"
	"reflect"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if !reflect.DeepEqual(quiet, &trial{}) {
		println("somebody wrote to what all judged results share")
		code = 1
	}
	os.Exit(code)
}
