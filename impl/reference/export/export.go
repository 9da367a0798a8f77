// Package export writes a data directory that a reference PDS can start from: the way back,
// and away, for who is here. What that server cannot know it is told of in a report:
// passwords chosen here, and sessions begun here.
package export
