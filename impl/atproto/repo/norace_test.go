//go:build !race

package repo_test

// raced says that the race detector is there, with which all takes ten times as long.
const raced = false
