package system

import (
	"flag"
	"runtime"
	"strconv"
)

// runMoreAtOnce has more than twice as many tests run at once as there are cores, since they mostly wait,
// unless the flag -parallel says how many.
func runMoreAtOnce() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if chosen {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)+1)); err != nil {
		panic(err)
	}
}
