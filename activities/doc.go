// Package activities is everything with which jobs touch the world: commands to parties ([Remote]), the rows that users
// read ([Records]), and runs of containers on a host ([Runner]).
//
// Every activity may be begun again at any moment, also while an earlier try still goes on somewhere, and does then what
// is left to do: records move states forward only, commands are harmless when they come twice or are asked about before
// they are sent again, runs are found by their name.
package activities
