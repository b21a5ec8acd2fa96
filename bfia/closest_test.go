package bfia

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestClosest(t *testing.T) {
	for _, c := range []struct {
		name       string
		candidates []string
		want       string
	}{
		{"lable", []string{"id", "label", "num_trees"}, "label"},
		{"num_tree", []string{"num_trees", "num_bins"}, "num_trees"},
		{"Num_Trees", []string{"num_trees"}, "num_trees"},
		{"gust", []string{"guest", "host"}, "guest"},
		{"hots", []string{"guest", "host"}, "host"},
		{"di", []string{"id"}, ""},
		{"eta", []string{"id"}, ""},
		{"seed", []string{"label"}, ""},
		{"learning", []string{"eta", "seed"}, ""},
		{"x", nil, ""},
	} {
		assert.Equal(t, c.want, Closest(c.name, c.candidates), c.name)
	}
	assert.Equal(t, "; did you mean label?", DidYouMean("lable", []string{"label"}))
	assert.Equal(t, "; did you mean config?", DidYouMean("conf", []string{"config", "dag"}))
	assert.Equal(t, "; did you mean old_job_id?", DidYouMean("old_job", []string{"job_id", "old_job_id"}))
	assert.Empty(t, DidYouMean("num_", []string{"num_trees", "num_bins"}))
	assert.Empty(t, DidYouMean("x", []string{"label"}))
}
