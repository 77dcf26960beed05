package beat

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever begins whenever meets the others at the beats that they share.
func TestBeatsMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const often, seldom = 5 * time.Second, 10 * time.Second
		next := func(every time.Duration) time.Time {
			left := Until(every)
			if left <= 0 || left > every {
				t.Fatalf("%v until the next beat of %v", left, every)
			}
			return time.Now().Add(left)
		}
		met := 0
		for range 100 {
			time.Sleep(1234567 * time.Microsecond) // in no step with either
			a, b := next(often), next(seldom)
			switch b.Sub(a) {
			case 0:
				met++
			case often:
			default:
				t.Fatalf("the next beats lie %v apart", b.Sub(a))
			}
			time.Sleep(time.Until(a))
			if left := Until(often); left != often {
				t.Fatalf("at a beat the next one is %v away", left)
			}
			if now := time.Now(); Last(now, often) != now || Last(now.Add(often-1), often) != now {
				t.Fatalf("at a beat the last one was at %v, then at %v, not at %v", Last(now, often), Last(now.Add(often-1), often), now)
			}
		}
		if met == 0 || met == 100 {
			t.Errorf("every second beat of %v is one of %v; %d of 100 were", often, seldom, met)
		}
	})
}
