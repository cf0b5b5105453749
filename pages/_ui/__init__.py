"""What pages share: the only shared code that imports streamlit.

A new page needs five calls:

    page("Senses", "Which senses does this word have, and what do they write?")   # title and question
    session = need_model()                                                        # the session, or a designed waiting state and stop
    if st.button("Look"): jobs.start("senses", "Reading senses", lambda progress: session.look("senses", ...), settings)
    jobs.panel("senses", draw, settings=settings, empty="What will appear, and how to get it.")
    figure_panel(figure, table, caption=provenance(...), key="senses")            # picture, table toggle, downloads, where it is from

`state` is what this browser tab chose; `words` turns numbers and times into text; `token_strip` and `grid` are clickable, and each has a
plain-widget twin for the keyboard.
"""
