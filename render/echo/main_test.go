package echo_test

import (
	"os"
	"testing"

	"idlewild/render/echo"
)

func TestMain(m *testing.M) {
	echo.RunnerMain()
	os.Exit(m.Run())
}
