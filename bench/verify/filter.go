package verify

import (
	"math"
	"slices"
	"strings"

	"idlewild/media"
)

// filter is one way of hiding noise: a plane of w*h samples in, one out.
type filter func(in []float32, w, h int) []float32

func filtered(m *media.Image, f filter) *media.Image {
	out := clone(m)
	for k, c := range out.Channels {
		if strings.HasPrefix(c.Name, combined) && !strings.HasSuffix(c.Name, ".A") {
			copy(out.Channels[k].Data, f(c.Data, m.Width, m.Height))
		}
	}
	return out
}

// window calls f with each pixel's neighbours within a radius.
func window(w, h, radius int, f func(i int, near []int)) {
	near := make([]int, 0, (2*radius+1)*(2*radius+1))
	for y := range h {
		for x := range w {
			near = near[:0]
			for j := max(0, y-radius); j <= min(h-1, y+radius); j++ {
				for i := max(0, x-radius); i <= min(w-1, x+radius); i++ {
					near = append(near, j*w+i)
				}
			}
			f(y*w+x, near)
		}
	}
}

func medianOf(in []float32, w, h int) []float32 {
	out := make([]float32, len(in))
	var v []float32
	window(w, h, 1, func(i int, near []int) {
		v = v[:0]
		for _, j := range near {
			v = append(v, in[j])
		}
		slices.Sort(v)
		out[i] = v[len(v)/2]
	})
	return out
}

func blurOf(in []float32, w, h int) []float32 {
	out := make([]float32, len(in))
	window(w, h, 2, func(i int, near []int) {
		var sum, weight float64
		for _, j := range near {
			dx, dy := float64(j%w-i%w), float64(j/w-i/w)
			k := math.Exp(-(dx*dx + dy*dy) / 2)
			sum += k * float64(in[j])
			weight += k
		}
		out[i] = float32(sum / weight)
	})
	return out
}

// patchesOf is non-local means in the logarithm: a pixel becomes the mean of
// those nearby whose surroundings look alike.
func patchesOf(in []float32, w, h int) []float32 {
	log := make([]float32, len(in))
	for i, v := range in {
		log[i] = float32(math.Log(math.Max(float64(v), 0) + 1e-3))
	}
	sum, weight := make([]float32, len(in)), make([]float32, len(in))
	diff := make([]float32, len(in))
	const reach, width = 3, 0.25
	for dy := -reach; dy <= reach; dy++ {
		for dx := -reach; dx <= reach; dx++ {
			at := func(i int) int {
				return max(0, min(h-1, i/w+dy))*w + max(0, min(w-1, i%w+dx))
			}
			for i := range log {
				d := log[i] - log[at(i)]
				diff[i] = d * d
			}
			smooth := boxOf(diff, w, h)
			for i := range log {
				k := float32(math.Exp(-float64(smooth[i]) / (width * width)))
				sum[i] += k * log[at(i)]
				weight[i] += k
			}
		}
	}
	out := make([]float32, len(in))
	for i := range out {
		out[i] = float32(math.Exp(float64(sum[i]/weight[i])) - 1e-3)
	}
	return out
}

// boxOf is the mean over 3x3 pixels.
func boxOf(in []float32, w, h int) []float32 {
	rows, out := make([]float32, len(in)), make([]float32, len(in))
	for y := range h {
		for x := range w {
			rows[y*w+x] = (in[y*w+max(0, x-1)] + in[y*w+x] + in[y*w+min(w-1, x+1)]) / 3
		}
	}
	for y := range h {
		for x := range w {
			out[y*w+x] = (rows[max(0, y-1)*w+x] + rows[y*w+x] + rows[min(h-1, y+1)*w+x]) / 3
		}
	}
	return out
}
