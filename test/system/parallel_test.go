package system

import (
	"flag"
	"runtime"
	"strconv"
)

// runMoreAtOnce has one test more than there are cores run at once, since they mostly wait, unless the flag
// -parallel says how many.
func runMoreAtOnce() {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if chosen {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		panic(err)
	}
}
