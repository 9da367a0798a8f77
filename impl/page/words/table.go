package words

// table is what there is to say: English, and German.
var table = []struct{ english, german string }{
	// Of all sites.
	{"Skip to the content", "Zum Inhalt"},
	{"Sign out", "Abmelden"},
	{"Pages", "Seiten"},
	{"Copy", "Kopieren"},
	{"Go on", "Weiter"},
	{"One moment", "Einen Augenblick"},
	{"You come from another site.", "Sie kommen von einer anderen Website."},
	{"That did not work", "Das hat nicht geklappt"},
}
