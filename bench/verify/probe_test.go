package verify

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/verify"
)

func TestProbe(t *testing.T) {
	dir := os.Getenv("PROBE")
	if dir == "" {
		t.Skip("only by hand")
	}
	draws, _ := strconv.Atoi(os.Getenv("DRAWS"))
	if draws == 0 {
		draws = 20
	}
	var all []trial
	for _, sc := range scenes(false) {
		if only := os.Getenv("ONLY"); only != "" && !strings.Contains(sc.name, only) {
			continue
		}
		s := &studioScene{scene: sc, studio: studio{dir: dir}, files: map[string]*media.Image{}}
		tr, err := s.judge(t.Context(), draws, draws, verify.DefaultThresholds())
		if err != nil {
			fmt.Println(sc.name, "skipped:", err)
			continue
		}
		all = append(all, tr...)
		var names []string
		by := map[string][]trial{}
		for _, x := range tr {
			if by[x.Claim] == nil {
				names = append(names, x.Claim)
			}
			by[x.Claim] = append(by[x.Claim], x)
		}
		sort.Strings(names)
		fmt.Printf("== %s %s adaptive=%v\n", sc.name, sc.set(), sc.adaptive)
		for _, n := range names {
			cnt := map[job.Ruling]int{}
			lo, hi := map[string]float64{}, map[string]float64{}
			for i, x := range by[n] {
				cnt[x.Ruling]++
				for k, v := range x.Numbers {
					if i == 0 {
						lo[k], hi[k] = v, v
					}
					lo[k], hi[k] = min(lo[k], v), max(hi[k], v)
				}
			}
			line := fmt.Sprintf("%-38s A%3d U%3d R%3d", n, cnt[job.Accepted], cnt[job.Unsure], cnt[job.Rejected])
			for _, k := range strings.Fields(os.Getenv("KEYS")) {
				line += fmt.Sprintf(" %s %.3g..%.3g", k, lo[k], hi[k])
			}
			fmt.Println(line)
			if os.Getenv("WHY") != "" {
				why := map[string]int{}
				for _, x := range by[n] {
					if (x.Goal == goalHonest) != (x.Ruling == job.Accepted) {
						why[string(x.Ruling)+": "+x.Reason[:min(70, len(x.Reason))]]++
					}
				}
				for w, c := range why {
					fmt.Println("      ", c, w)
				}
			}
		}
	}
	if out := os.Getenv("OUT"); out != "" {
		b, _ := json.Marshal(all)
		os.WriteFile(out, b, 0o644)
	}
}
