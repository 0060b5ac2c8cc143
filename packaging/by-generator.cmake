# Run by CPack before it packs what was installed: what lies elsewhere in each of the two. Not file(INSTALL): that would
# put DESTDIR before the path once more.
set(share "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share")

function(add from to)
  get_filename_component(into "${to}" DIRECTORY)
  file(MAKE_DIRECTORY "${share}/${into}")
  file(COPY_FILE "${from}" "${share}/${to}")
  file(CHMOD "${share}/${to}" FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
endfunction()

# Where this machine's zsh looks is nothing to go by.
file(GLOB completion "${share}/zsh/*/_cmctl")
file(RENAME "${completion}" "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/_cmctl")
file(REMOVE_RECURSE "${share}/zsh")
if(CPACK_GENERATOR STREQUAL "DEB")
  set(completions vendor-completions)
  add("${CMAKE_CURRENT_LIST_DIR}/deb/lintian-overrides" lintian/overrides/cmssh)
else()
  set(completions site-functions)
  add("${CMAKE_CURRENT_LIST_DIR}/../LICENSE" licenses/cmssh/LICENSE)
  add("${CMAKE_CURRENT_LIST_DIR}/copyright" licenses/cmssh/copyright)
  file(REMOVE "${share}/doc/cmssh/copyright")
endif()
file(MAKE_DIRECTORY "${share}/zsh/${completions}")
file(RENAME "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/_cmctl" "${share}/zsh/${completions}/_cmctl")

# Whatever the umask.
file(CHMOD_RECURSE "${CPACK_TEMPORARY_INSTALL_DIRECTORY}" DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
     GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
